"""What a trained model is for: register scans, measure pairs, adapt to a pair; and the classical tools beside it."""
