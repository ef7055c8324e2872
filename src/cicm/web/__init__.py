"""The web page and the REST interface: a door like the command line. Needs the extra `serve`.

`server` puts the files of this folder together: `guard` looks at every request before anything else does, `form` takes
an upload apart while it arrives, `workshop` repairs one photo after the other, `reference` explains the interface.
"""
