/* Describes where a session stands, for people who read a failure. It looks inside and changes nothing. (Not part of
 * sim.h, because the session's insides and the parameter server's have a struct of the same name.) */
#ifndef DECANT_TESTS_SIM_EXPLAIN_H
#define DECANT_TESTS_SIM_EXPLAIN_H

#include <stddef.h>

struct session;
/* Writes at most size - 1 characters and a NUL; returns how many. */
size_t session_explain(const struct session *s, char *text, size_t size);

#endif
