"""A conversation that the starter model goes on with in one way only, for tests that compare two answers.

Without our kernels, where a prompt is computed (how much of it was kept, beside which others) moves a token's
log-probability by up to 0.5 (docs/models.md, "How exact"); here the likeliest token leads by 2.5 or more, so no rounding
can put another first on any processor.
"""

NO_CHOICE = {"note": 'a "b" \\ é\n' * 5}  # arguments of which the grammar leaves only these
WRITE = {"type": "object", "properties": {"note": {"const": NO_CHOICE["note"]}}, "required": ["note"]}
LETTERS = "A B C D E F G H I J K L M"
SURE = [{"role": role, "content": LETTERS} for role in ("user", "assistant", "user", "assistant", "user")]
