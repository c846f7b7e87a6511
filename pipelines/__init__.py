"""Beam: thin transforms around scoring and storage. Never imports TensorFlow, Keras or model_export."""
