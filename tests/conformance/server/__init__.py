"""A server that offers what the scenarios of the official conformance suite ask for, in both eras of the protocol.

``python -m <this package>`` speaks stdio; ``--http PORT`` speaks Streamable HTTP on loopback.  What each tool, prompt and
resource must do is what the suite's own error texts and scenario descriptions say.
"""
