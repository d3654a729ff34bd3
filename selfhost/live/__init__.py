"""The live view: pure frames over what was observed, and the one loop that draws them and listens to keys.

`words`, `rates` and `glyphs` know no rich, so that the one-shot table says things in the same words without loading it.
"""
