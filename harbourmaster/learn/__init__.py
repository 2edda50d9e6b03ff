"""``hm sandbox learn``: run a server once, propose the least profile, try it, and after a yes put it into the entry."""
