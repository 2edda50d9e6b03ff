"""HTTP: OpenAI's, Docker's, Anthropic's and Ollama's dialects of the runner."""
