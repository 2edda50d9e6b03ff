"""Who may call what: Cedar decisions, limits per caller and server, and a person's yes where a policy wants one."""
