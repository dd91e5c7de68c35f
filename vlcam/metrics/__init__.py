"""What a map is worth: pure functions on arrays at one resolution, (H, W), rows first.

Pixel (x, y) of a picture spans x ... x + 1 and y ... y + 1 in box coordinates, its centre being at
(x + 0.5, y + 0.5). What cannot be measured is never dropped in silence: a degenerate map is a miss
where one points and says no more than a uniform one where ratios are taken; boxes without an inside
or an outside are counted.
"""
