"""The contracts of the house: labels, tables, model contract, settings. No I/O, no Beam, no TensorFlow."""
