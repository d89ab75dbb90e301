"""The node's nouns out of the EVE API's messages, and back.

Submodules go by their own names: `device` for a whole config, `reports` and `measures` for what a
node sends up, the others for single nouns.
"""
