"""Files that a user begins with: experiments and sweeps, written from what is found."""
