/* SPDX-License-Identifier: ISC */
/*
 * What a bash in the sandbox reads at its start (BASH_ENV, -rcfile).
 *
 * Theory: a bash changes its variables by itself, with no trace outside. So before each command it
 * compares them with what it told last, and writes what is new to the control. The `read` after it
 * opens a file: that makes the server listen, so the control never fills up, and what was told
 * holds when the function returns. What was told is exported: a bash that is started with other
 * variables than its parent told sees the difference at once. DEBUG traps reach functions and
 * subshells only with functrace.
 *
 * Limits: what a compound command is redirected to ({ ...; } > FILE) is opened before its first
 * command, and so is judged by what was told before it, if no simple command stands between the
 * change and it. A script that sets a DEBUG trap of its own takes ours away; adddeny and the others
 * go on.
 */
#include "trace/gentoo.h"

const char hk_gentoo_hook[] =
	"# hako: tells the sandbox of changed variables; see hako-sandbox(1)\n"
	"if [[ -n ${HAKO_SANDBOX_FD-} ]]; then\n"
	"export BASH_ENV=${SANDBOX_BASHRC}\n"
	"__hako_tell() {\n"
	"\texport HAKO_SANDBOX_TOLD=\"${SANDBOX_ON-}|${SANDBOX_DENY-}|${SANDBOX_READ-}|"
	"${SANDBOX_WRITE-}|${SANDBOX_PREDICT-}|${SANDBOX_VERBOSE-}|${SANDBOX_DEBUG-}\"\n"
	"\tlocal __hako_name\n"
	"\tfor __hako_name in ON DENY READ WRITE PREDICT VERBOSE DEBUG; do\n"
	"\t\t__hako_name=SANDBOX_$__hako_name\n"
	"\t\tprintf '%s=%s\\0' \"$__hako_name\" \"${!__hako_name-}\"\n"
	"\tdone >&\"$HAKO_SANDBOX_FD\"\n"
	"\tread -r __hako_name <\"$SANDBOX_BASHRC\"\n"
	"} 2>/dev/null\n"
	"adddeny() { export SANDBOX_DENY=\"${SANDBOX_DENY-}:$1\"; __hako_tell; }\n"
	"addread() { export SANDBOX_READ=\"${SANDBOX_READ-}:$1\"; __hako_tell; }\n"
	"addwrite() { export SANDBOX_WRITE=\"${SANDBOX_WRITE-}:$1\"; __hako_tell; }\n"
	"addpredict() { export SANDBOX_PREDICT=\"${SANDBOX_PREDICT-}:$1\"; __hako_tell; }\n"
	"sandboxon() { export SANDBOX_ON=1; __hako_tell; }\n"
	"sandboxoff() { export SANDBOX_ON=0; __hako_tell; }\n"
	"set -o functrace\n"
	"trap '[[ \"${SANDBOX_ON-}|${SANDBOX_DENY-}|${SANDBOX_READ-}|${SANDBOX_WRITE-}|"
	"${SANDBOX_PREDICT-}|${SANDBOX_VERBOSE-}|${SANDBOX_DEBUG-}\" == "
	"\"${HAKO_SANDBOX_TOLD-}\" ]] || __hako_tell' DEBUG\n"
	"fi\n";
