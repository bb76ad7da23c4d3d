"""Light-weight deformable registration, small enough to read in an evening.

Data flows one way through these rooms; no module imports one that stands further down:

- `warp`: move an image along a displacement field; combine, measure and invert such fields
- `losses`: correlation coefficient, smoothness, affine regularisers
- `networks`: LDR, VTN, VoxelMorph and the affine stems
- `cascade`: stems that each look at what is left to do
- `training`: draw pairs, warp, compare, step (with `augment`)

Beside them: `data` (scans and cohorts), `metrics` and `evaluate`, `models` (build, save, load), `complexity`, `records`
(where a number comes from), `plotting`, `register` and `fields` (from file to file), and `cli` on top.
"""

__version__ = "0.1.0"
