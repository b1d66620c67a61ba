"""The broker: lets several processes serve one world, with one job per page and limits that are counted once."""
