"""Model cards; a package only so that `template.md` is installed with the code that renders it."""
