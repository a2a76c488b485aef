# SPDX-License-Identifier: BSD-2-Clause
#
# AM_PATH_SECMALLOC([MINIMUM-VERSION], [ACTION-IF-FOUND], [ACTION-IF-NOT-FOUND])
#
# Asks pkg-config for libsecmalloc and links a program with what it says.
# Substitutes SECMALLOC_CFLAGS and SECMALLOC_LIBS, which the user may also set,
# and defines HAVE_SECMALLOC if it is there. Does nothing more, and does not
# stop, unless the actions say so.

# serial 1

AC_DEFUN([AM_PATH_SECMALLOC],
[AC_REQUIRE([AC_PROG_CC])dnl
AC_ARG_VAR([PKG_CONFIG], [path to pkg-config])dnl
AC_ARG_VAR([PKG_CONFIG_PATH], [directories where pkg-config looks first])dnl
AC_ARG_VAR([PKG_CONFIG_LIBDIR], [directories where pkg-config looks instead of its own])dnl
AC_ARG_VAR([SECMALLOC_CFLAGS], [compiler flags for libsecmalloc, overriding pkg-config])dnl
AC_ARG_VAR([SECMALLOC_LIBS], [linker flags for libsecmalloc, overriding pkg-config])dnl
AC_PATH_TOOL([PKG_CONFIG], [pkg-config])
AC_MSG_CHECKING([for libsecmalloc]m4_ifnblank([$1], [ >= $1]))
secmalloc_found=no
AS_IF([test -n "$SECMALLOC_LIBS"],
  [secmalloc_found=yes],
  [test -n "$PKG_CONFIG" && "$PKG_CONFIG" --exists "secmalloc[]m4_ifnblank([$1], [ >= $1])"],
  [SECMALLOC_CFLAGS=${SECMALLOC_CFLAGS-`"$PKG_CONFIG" --cflags secmalloc`}
   SECMALLOC_LIBS=`"$PKG_CONFIG" --libs secmalloc`
   secmalloc_found=yes])
AS_IF([test "$secmalloc_found" = yes],
  [secmalloc_save_CFLAGS=$CFLAGS
   secmalloc_save_LIBS=$LIBS
   CFLAGS="$CFLAGS $SECMALLOC_CFLAGS"
   LIBS="$SECMALLOC_LIBS $LIBS"
   AC_LINK_IFELSE([AC_LANG_PROGRAM([[#include <secmalloc.h>]],
       [[return secmalloc_init(NULL);]])],
     [], [secmalloc_found=no])
   CFLAGS=$secmalloc_save_CFLAGS
   LIBS=$secmalloc_save_LIBS])
AC_MSG_RESULT([$secmalloc_found])
AS_IF([test "$secmalloc_found" = yes],
  [AC_DEFINE([HAVE_SECMALLOC], [1], [Define to 1 if libsecmalloc is there.])
   $2],
  [SECMALLOC_CFLAGS=
   SECMALLOC_LIBS=
   $3])
])
