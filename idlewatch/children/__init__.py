"""Child processes of ours: how they are started, heard and ended, with all that they have started themselves."""
