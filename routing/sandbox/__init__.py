"""An OpenAI-compatible server on loopback: real token counts and limits, injectable faults, a journal of every call."""
