/* SPDX-License-Identifier: Apache-2.0 */
/* The conformance suite: what every backend must do, written once against the public API. */
#ifndef CONFORMANCE_H
#define CONFORMANCE_H

#include "support/check.h"
#include "support/trial.h"

/* Runs a world of the backend and mode under test. */
void conformance_run(int32_t rank_count, world_fn fn, void *arg);

/* Skips the test, visibly, when the backend lacks a capability. */
void conformance_require(uint32_t capabilities);

/* Skips the test, visibly, when the backend has one: a test of what only the others do. */
void conformance_require_not(uint32_t capabilities);

/* Scenarios that one group plays one after the other. */
typedef struct scenario_list {
    const scenario_t *scenarios;
    size_t count;
} scenario_list_t;

/* A world in which every rank plays the list, in both layouts. */
void conformance_play(int32_t rank_count, const scenario_t *scenarios, size_t count);

/* The groups of tests. */
extern const struct CMUnitTest shape_tests[];
extern const size_t shape_test_count;
extern const struct CMUnitTest value_tests[];
extern const size_t value_test_count;
extern const struct CMUnitTest fp8_tests[];
extern const size_t fp8_test_count;
extern const struct CMUnitTest low_latency_tests[];
extern const size_t low_latency_test_count;
extern const struct CMUnitTest low_latency_refusal_tests[];
extern const size_t low_latency_refusal_test_count;
extern const struct CMUnitTest route_tests[];
extern const size_t route_test_count;
extern const struct CMUnitTest refusal_tests[];
extern const size_t refusal_test_count;
extern const struct CMUnitTest call_refusal_tests[];
extern const size_t call_refusal_test_count;
extern const struct CMUnitTest window_tests[];
extern const size_t window_test_count;

#endif
