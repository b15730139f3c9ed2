"""`python -m longwriter_core.mock_server`."""

from longwriter_core.mock_server.server import main

main()
