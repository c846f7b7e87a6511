"""Sound in, log-mel windows out: plain functions on numpy arrays and file objects."""
