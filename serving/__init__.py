"""Online: settings, the composition root, one short method per RPC, and the command line."""
