# SPDX-License-Identifier: BSD-2-Clause
#
# SECMALLOC_CHECK_CONFIG([MINIMUM-VERSION], [IF-FOUND], [IF-NOT-FOUND])
#
# Asks pkg-config for libsecmalloc. Substitutes SECMALLOC_CFLAGS and
# SECMALLOC_LIBS, which the user may also set, and then pkg-config is not asked.
# Defines HAVE_SECMALLOC if the library is there. If it is not, or is older than
# MINIMUM-VERSION, configure stops, unless IF-NOT-FOUND says something else to
# do; [:] is to go on.

# serial 1

AC_DEFUN([SECMALLOC_CHECK_CONFIG],
[m4_ifndef([PKG_CHECK_MODULES],
  [m4_fatal([pkg.m4 is missing: install pkg-config or pkgconf])])dnl
PKG_CHECK_MODULES([SECMALLOC], [secmalloc[]m4_ifnblank([$1], [ >= $1])],
  [AC_DEFINE([HAVE_SECMALLOC], [1], [Define to 1 if libsecmalloc is there.])
   $2],
  [$3])
])
