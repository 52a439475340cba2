# Makes lines of string literals of audit_page.html's lines.
s/\\/\\\\/g
s/"/\\"/g
s/^/"/
s/$/\\n"/
