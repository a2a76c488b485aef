#!/usr/bin/env bats
# What `make lint` holds the helper to, so that it can be read at a sitting.

load helpers

setup() {
	unset MAKEFLAGS MFLAGS MAKELEVEL
	DIR=$BATS_TEST_TMPDIR/helper
	mkdir "$DIR"
}

# function_of LINES, from brace to brace.
function_of() {
	printf 'static void\nlong_one(void)\n{\n'
	yes '	;' | head -n $(($1 - 2))
	echo '}'
}

lint_helper() {
	make -C "$abs_top_builddir" lint-helper LINT_HELPER="$DIR"
}

@test "a function of more than 60 lines is refused and named" {
	function_of 60 >"$DIR/main.c"
	run -0 lint_helper
	function_of 61 >"$DIR/main.c"
	run -2 lint_helper
	[[ "$output" == *"main.c:3: long_one(void) has 61 lines"* ]]
}

@test "a helper of more than 1300 lines of code is refused, of which comments are none" {
	{
		printf '/* one\n * two */\n\n\t/* three */\n'
		yes '	x = 1; /* and why */' | head -n 1300
	} >"$DIR/main.c"
	run -0 lint_helper
	echo '	y = 2;' >>"$DIR/main.c"
	run -2 lint_helper
	[[ "$output" == *"has 1301 lines of code"* ]]
}
