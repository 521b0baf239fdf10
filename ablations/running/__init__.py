"""A plan is run: attempts at stages in processes of their own, on this machine or called by a cluster's job."""
