"""Start the processes of a campaign, on this machine or on others."""
