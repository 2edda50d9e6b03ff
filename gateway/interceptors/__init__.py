"""What looks at a call before it reaches a server and at the answer before it reaches the client."""
