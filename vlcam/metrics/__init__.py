"""What a map is worth: pure functions on arrays at one resolution, (H, W), rows first.

Points are (x, y), sizes (height, width). In box coordinates pixel (x, y) spans x ... x + 1 and
y ... y + 1, its centre being at (x + 0.5, y + 0.5). What cannot be measured is never dropped in
silence: a degenerate map is a miss in the pointing game and counts as a uniform one in the box
ratio; boxes with no pixel inside, or none outside, are counted.
"""
