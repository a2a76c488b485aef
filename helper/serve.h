/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * serve.h: one conversation on the socket that is descriptor 0; knows nothing
 * of how memory is locked, nor of what this process was before.
 */
#ifndef SECMALLOC_SERVE_H
#define SECMALLOC_SERVE_H

#include "protocol.h"

/*
 * Answers until the other side ends the conversation or breaks its rules, and
 * closes the socket.  ABLE other than WIRE_OK is the answer to HELLO, and all.
 */
void serve(enum wire_status able);

#endif
