"""Reference assistant: a small chat service under the contract of docs/assistant-contract.md."""
