/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sanitizers.h: clang's way to tell what it builds with, in gcc's words.
 */
#ifndef SANITIZERS_H
#define SANITIZERS_H

#if defined(__has_feature)
# if __has_feature(address_sanitizer) && !defined(__SANITIZE_ADDRESS__)
#  define __SANITIZE_ADDRESS__ 1
# endif
# if __has_feature(thread_sanitizer) && !defined(__SANITIZE_THREAD__)
#  define __SANITIZE_THREAD__ 1
# endif
#endif

#endif
