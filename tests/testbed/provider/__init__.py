"""An OpenAI-compatible model server of the testbed. It stands for a model server that runs inside the legal zone.

It is no language model: it answers by quoting, deterministically, the sentence of the prompt that shares most words
with the question. What is real is all around it: the protocol, the streaming, the place on the network, and a record of
every byte that reached it, which tests inspect.
"""
