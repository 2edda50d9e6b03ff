"""OAuth 2.1 as a client: how the gateway gets, keeps and renews tokens for remote servers; docs/remote-servers.md."""
