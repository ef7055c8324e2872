"""Real pixels for a hole, found in the same photo or in other photos.

`smooth` recognises flat colours and ramps, `patches` copies patches of the photo and of others, `joining` joins these
with what a network filled, and `align` brings other photos of the same scene into place. All of it is NumPy on arrays;
`patches` needs PyPatchMatch's native part, `align` needs OpenCV.
"""
