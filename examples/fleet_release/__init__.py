"""A release to several hosts: a machine waits for the approval, a saga switches the hosts, or switches them back."""
