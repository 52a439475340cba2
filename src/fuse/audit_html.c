/* SPDX-License-Identifier: ISC */
/*
 * The report as a page: audit_page.html with the report's JSON in it.
 *
 * The data stands in a <script type="application/json">, which ends at the next "</script",
 * whatever is in it: the JSON writer escapes each '<', so there is none. The page puts text into
 * the document as text only, and its Content-Security-Policy lets it load nothing.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "fuse/audit_impl.h"

/* Made of audit_page.html by the build: its lines as string literals. */
static const char page[] =
#include "fuse/audit_page.h"
	;

static const char mark[] = "@DATA@";

int hk_audit_report_html(struct hk_audit *audit, FILE *to, const char *command)
{
	autofree struct hk_json_file *file = hk_malloc(sizeof(*file));
	const char *data = strstr(page, mark);
	int r, written;

	if (file == NULL) {
		return -ENOMEM;
	}
	hk_json_file_init(file, to);
	hk_json_raw_bytes(&file->json, page, (size_t)(data - page));
	r = hk_audit_report_body(&file->json, hk_audit_results(audit), command, true);
	hk_json_raw(&file->json, data + strlen(mark));
	written = hk_json_file_finish(file);
	return r < 0 ? r : written;
}
