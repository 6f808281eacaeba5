"""Ablations: what each part of a recipe is worth, as tables of trials that differ in that part alone.

`python -m training ablate digits|streets` trains every row several times: `digits` with several seeds, scored on the
test digits at the final epoch; `streets` with each of CamVid's training sequences held out in turn and scored on it,
which is nearer to a street never seen than the validation split is.
"""
