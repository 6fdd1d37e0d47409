"""``chappe demo``: the whole daemon with nothing to plug in. Pictures for a camera, pins in memory, a broker of its own.

`session` puts it together and takes it apart again, `board` keeps what there is to show, `view` shows it, and `watch` is a small
subscriber for looking at the broker from outside.
"""
