/* What the sample components have in common: they say what is called. */
#ifndef SAY_H
#define SAY_H
#include <stdio.h>

#define SAYS(function, text) static void function (void) { puts (text); }
#endif
