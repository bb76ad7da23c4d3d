"""Medical visual question answering: MEVF (MICCAI 2019) and MMQ (MICCAI 2021), from scratch, on VQA-RAD.

Read the modules in this order: `questions`, `radiology` and `simulated` (the data), `labels` and `splits`, `words` and
`question` (text), `cdae`, `meta_net`, `maml` and `mmq` (images), `san` and `ban` (attention), `answers` and `model`,
`train`, `evaluate`, `baselines`. `grid` lists the recorded runs, `run` makes one, and `verdicts` judges the claims.
"""
