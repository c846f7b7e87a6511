"""The command: one module a sub-command, flags, exit codes. Nothing here is imported by the other packages."""
