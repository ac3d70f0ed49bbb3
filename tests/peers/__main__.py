"""Write the page of the documentation that these tests make."""

from tests.peers.behaviours import PAGE, page

PAGE.write_text(page())
