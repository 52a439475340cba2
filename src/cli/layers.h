/* SPDX-License-Identifier: ISC */
/*
 * Where layers of copy-on-write are kept: ${XDG_DATA_HOME:-~/.local/share}/hako/layers/NAME. Those
 * that nobody has named are there as well, under names that begin with "tmp.", and go with their
 * run.
 */
#ifndef HK_CLI_LAYERS_H
#define HK_CLI_LAYERS_H

#include "base/err.h"

/**
 * hk_layers_dir() - the directory of all, made if it is not there. @ret_path: real path, free().
 * Return: 0 or -errno
 */
int hk_layers_dir(char **ret_path, struct hk_err *err);

/**
 * hk_layers_named() - the layer called @name, there or not. @ret_path: free(). Return: 0; -EINVAL
 * for what is no name
 */
int hk_layers_named(const char *dir, const char *name, char **ret_path, struct hk_err *err);

/**
 * hk_layers_make() - the layer called @name, made if it is not there; NULL: a temporary one.
 * @ret_path: free()
 */
int hk_layers_make(const char *dir, const char *name, char **ret_path, struct hk_err *err);

/** hk_layers_remove() - a layer and all in it. Return: 0 or -errno of the first thing that stays */
int hk_layers_remove(const char *path, struct hk_err *err);

#endif
