"""The checks of ``ablate doctor``: does this machine or cluster have everything that a sweep needs?"""
