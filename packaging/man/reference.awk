# SPDX-License-Identifier: Apache-2.0
# docs/ovfs.toml.md, as `ovfs --print-config-reference` writes it -> scdoc, for ovfs.toml(5).
function text(line)
{
	gsub(/\\/, "\\\\", line)
	gsub(/[*_]/, "\\\\&", line)
	# `code` in italics, with what is inside as it is
	while (match(line, /`[^`]+`/))
		line = substr(line, 1, RSTART - 1) "*" substr(line, RSTART + 1, RLENGTH - 2) "*" \
			substr(line, RSTART + RLENGTH)
	return line
}

BEGIN {
	print "ovfs.toml(5)\n\n# NAME\n\novfs.toml - configuration file of ovfs\n\n# DESCRIPTION\n"
}

/^# / { next }
/^Generated from/ { skip = 1 }
skip { if ($0 == "") skip = 0; next }
/^```/ { code = !code; print "```"; next }
code { print; next }
# Names of tables and keys stay as they are written.
/^## \[/ { print "# " text(substr($0, 4)) "\n"; next }
/^## / { print "# " toupper(text(substr($0, 4))) "\n"; next }
/^### / { gsub(/`/, ""); print "## " text(substr($0, 5)) "\n"; next }
{ print text($0) }

END { print "\n# SEE ALSO\n\n*ovfs*(1), *ovfsctl*(1)" }
