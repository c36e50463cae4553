"""For people: what the state folder and the volume say, as text. Nothing here can break what watches."""
