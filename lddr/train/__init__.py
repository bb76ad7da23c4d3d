"""Training: from a cohort to a model, alone or with a teacher."""
