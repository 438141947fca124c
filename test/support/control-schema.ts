/** docs/control-api.openapi.yaml as a judge of real answers. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import Ajv2020, { type ValidateFunction } from 'ajv/dist/2020';
import { parse } from 'yaml';

interface MediaType {
  readonly schema: object;
  readonly examples?: Readonly<Record<string, { readonly value: unknown }>>;
}
interface ResponseObject {
  readonly $ref?: string;
  readonly content?: Readonly<Record<string, MediaType>>;
}
interface Operation {
  readonly operationId: string;
  readonly responses: Readonly<Record<string, ResponseObject>>;
}
interface Api {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: {
    readonly responses: Readonly<Record<string, ResponseObject>>;
    readonly schemas: Readonly<Record<string, object>>;
  };
}

const file = path.join(__dirname, '../../docs/control-api.openapi.yaml');

export class ControlSchema {
  readonly api = parse(readFileSync(file, 'utf8')) as Api;
  private readonly ajv = new Ajv2020({
    strict: false,
    allErrors: true,
    formats: { 'date-time': /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/ },
  });
  private readonly compiled = new Map<object, ValidateFunction>();

  constructor() {
    this.ajv.addSchema(this.api, 'api');
  }

  /** "GET /v1/status" and so on. */
  get operations(): string[] {
    return Object.entries(this.api.paths).flatMap(([url, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${url}`),
    );
  }

  operation(method: string, url: string): Operation {
    const found = this.api.paths[url]?.[method.toLowerCase()];
    if (found === undefined) throw new Error(`The file does not describe ${method} ${url}.`);
    return found;
  }

  /** What the file says of an answer with this status; throws when it does not know it. */
  mediaType(method: string, url: string, status: number): MediaType {
    let response = this.operation(method, url).responses[`${status}`];
    const name = response?.$ref?.replace('#/components/responses/', '');
    if (name !== undefined) response = this.api.components.responses[name];
    const [media] = Object.values(response?.content ?? {});
    if (media === undefined)
      throw new Error(`${method} ${url} has no answer ${status} in the file.`);
    return media;
  }

  /** What is wrong with an answer, or one line of it; empty: nothing. */
  faults(method: string, url: string, status: number, body: unknown): string[] {
    const { schema } = this.mediaType(method, url, status);
    const check = this.validator(schema);
    if (check(body)) return [];
    return (check.errors ?? []).map((error) => `${error.instancePath} ${error.message}`);
  }

  /** Every name of a field that the schemas of a status, or of a sample of it, have. */
  statusFields(): ReadonlySet<string> {
    const names = new Set<string>();
    for (const schema of ['CommonStatus', 'PrimaryStatus', 'StandbyStatus', 'Sample']) {
      const { properties = {} } = this.api.components.schemas[schema] as { properties?: object };
      for (const name of Object.keys(properties)) names.add(name);
    }
    return names;
  }

  private validator(schema: object): ValidateFunction {
    let check = this.compiled.get(schema);
    if (check === undefined) {
      // References are to the file as a whole.
      const text = JSON.stringify(schema).replaceAll('"#/', '"api#/');
      check = this.ajv.compile(JSON.parse(text) as object);
      this.compiled.set(schema, check);
    }
    return check;
  }
}
