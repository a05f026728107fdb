"""What may be set of a training, and the lists of algorithms and encoders; nothing here needs torch."""
