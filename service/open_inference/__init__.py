"""The Open Inference Protocol, version 2, over REST, with its binary tensor extension.

`requests` reads what a client asks for, with `envelope`, `json_pixels` and `json_pictures`; `inference` has it answered
through the pipeline that every picture goes through; `responses` writes the answer; `metadata` says what there is.
docs/open-inference-protocol.md tells clients what they may send, and where this is not what the protocol says.
"""
