"""The command line `holdfast`: parser, commands, and how runs are shown. Loads rich only when it draws."""
