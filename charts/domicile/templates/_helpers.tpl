{{/* Labels of every object; dict "root" $ "component" name. */}}
{{- define "domicile.labels" -}}
{{ include "domicile.selector" . }}
app.kubernetes.io/part-of: domicile
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- define "domicile.selector" -}}
app.kubernetes.io/name: domicile
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "domicile.imageOf" -}}
{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end -}}

{{- define "domicile.image" -}}
{{ include "domicile.imageOf" (dict "root" . "image" .Values.image) }}
{{- end -}}

{{/* Region of each served site as a JSON object, and a failure that names what is missing or contradicts. */}}
{{- define "domicile.regionOf" -}}
{{- $known := deepCopy .Values.regions -}}
{{- range $zone := .Values.zones -}}{{- range $site := $zone.sites -}}
{{- $region := get $known $site.name | default $site.region -}}
{{- if ne $region $site.region -}}
{{- fail (printf "regions: site %q is given as in %s and as in %s; it can be in one region only" $site.name $region $site.region) -}}
{{- end -}}
{{- $_ := set $known $site.name $region -}}
{{- end -}}{{- end -}}
{{- $served := dict -}}
{{- range $name := .Values.sites -}}
{{- if not (hasKey $known $name) -}}
{{- fail (printf "sites: no zone in `zones` has a site %q; add the zone, or set `regions.%s` to the region of its nodes" $name $name) -}}
{{- end -}}
{{- $_ := set $served $name (get $known $name) -}}
{{- end -}}
{{ $served | toJson }}
{{- end -}}

{{/* Regions of all served sites, as a JSON array. */}}
{{- define "domicile.regions" -}}
{{ values (include "domicile.regionOf" . | fromJson) | uniq | sortAlpha | toJson }}
{{- end -}}

{{/* Regions whose nodes may run the operator, which handles the keys of all served sites: never a guess. */}}
{{- define "domicile.operatorRegions" -}}
{{- $all := include "domicile.regions" . | fromJsonArray -}}
{{- $chosen := .Values.operator.regions | default list -}}
{{- if and (not $chosen) (gt (len $all) 1) -}}
{{- fail (printf "operator.regions: the sites are in several regions (%s) and the operator handles the tenant keys of all of them; say in which of these regions it may run" (join ", " $all)) -}}
{{- end -}}
{{- range $chosen -}}
{{- if not (has . $all) -}}
{{- fail (printf "operator.regions: %s is the region of no site of this cluster (%s)" . (join ", " $all)) -}}
{{- end -}}
{{- end -}}
{{ $chosen | default $all | toJson }}
{{- end -}}

{{/* Name of a site's own Secret; dict "root" $ "secret" name or "" "site" name. A cluster of one site has no suffix. */}}
{{- define "domicile.siteSecret" -}}
{{- if .secret -}}
{{ ternary .secret (printf "%s-%s" .secret .site) (eq (len .root.Values.sites) 1) }}
{{- end -}}
{{- end -}}

{{/* Secrets of all sites as a JSON array; dict "root" $ "secret" name or "". */}}
{{- define "domicile.siteSecrets" -}}
{{- $names := list -}}
{{- range $site := .root.Values.sites -}}
{{- $names = append $names (include "domicile.siteSecret" (dict "root" $.root "secret" $.secret "site" $site)) -}}
{{- end -}}
{{ $names | compact | toJson }}
{{- end -}}

{{/* What every pod of ours has; dict "root" $ "component" name "serviceAccount" name "regions" JSON array. */}}
{{- define "domicile.pod" -}}
serviceAccountName: {{ .serviceAccount }}
automountServiceAccountToken: {{ eq .component "operator" }}
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile:
    type: RuntimeDefault
affinity:
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms:
        - matchExpressions:
            - key: topology.kubernetes.io/region
              operator: In
              values: {{ .regions }}
{{- end -}}

{{- define "domicile.spread" -}}
topologySpreadConstraints:
  {{- $selector := include "domicile.selector" . }}
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- $selector | nindent 8 }}
  {{- end }}
{{- end -}}

{{- define "domicile.container" -}}
image: {{ include "domicile.image" . }}
{{ include "domicile.confined" . }}
{{- end -}}

{{- define "domicile.confined" -}}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  capabilities:
    drop: [ALL]
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{/* Ports and probes; dict "root" $ "ports" dict of more ports by name. */}}
{{- define "domicile.probes" -}}
ports:
  - name: http
    containerPort: 8080
  {{- range $name, $port := .ports }}
  - name: {{ $name }}
    containerPort: {{ $port }}
  {{- end }}
  {{- if .root.Values.metrics.tlsSecret }}
  - name: metrics
    containerPort: 8443
  {{- end }}
startupProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 5
  timeoutSeconds: 4
{{- end -}}

{{/* Environment of the port of /metrics, if there is one. */}}
{{- define "domicile.metricsEnv" -}}
{{- with .Values.metrics }}{{ if .tlsSecret -}}
- name: DOMICILE_METRICS_DIR
  value: /etc/domicile/metrics
- name: DOMICILE_METRICS_NETWORKS
  value: {{ join "," .networks | quote }}
{{- end }}{{ end -}}
{{- end -}}

{{/* Whether the installation goes through the way out. */}}
{{- define "domicile.goesOut" -}}
{{- if .Values.egress.all -}}
{{- if not .Values.egress.enabled -}}
{{- fail "egress.all: there is no way out; set egress.enabled, too" -}}
{{- end -}}
true
{{- end -}}
{{- end -}}

{{/* Environment of whoever does. */}}
{{- define "domicile.wayOutEnv" -}}
{{- if include "domicile.goesOut" . -}}
- name: DOMICILE_WAY_OUT
  value: domicile-egress.{{ .Release.Namespace }}.svc:3129
{{- end -}}
{{- end -}}

{{/* Mounts and volumes; dict "sites" bool, "credentials", "keys", "identity" and "models" lists of Secrets, "metrics" name
of a Secret or "", "tls" name of a Secret of the operator's making, "tokens" values of cloudIdentity, "wayOut" not empty
for who goes through the way out, "logins" true for who asks identity servers there, "tmp" size. */}}
{{- define "domicile.mounts" -}}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  {{- if .sites }}
  - {name: sites, mountPath: /etc/domicile/sites, readOnly: true}
  {{- end }}
  {{- if .credentials }}
  - {name: credentials, mountPath: /etc/domicile/credentials, readOnly: true}
  {{- end }}
  {{- if .keys }}
  - {name: keys, mountPath: /etc/domicile/keys, readOnly: true}
  {{- end }}
  {{- if .identity }}
  - {name: identity, mountPath: /etc/domicile/identity, readOnly: true}
  {{- end }}
  {{- if .models }}
  - {name: models, mountPath: /etc/domicile/models, readOnly: true}
  {{- end }}
  {{- if .tls }}
  - {name: tls, mountPath: /etc/domicile/tls, readOnly: true}
  {{- end }}
  {{- if .metrics }}
  - {name: metrics, mountPath: /etc/domicile/metrics, readOnly: true}
  {{- end }}
  {{- if .wayOut }}
  - {name: way-out, mountPath: /etc/domicile/way-out, readOnly: true}
  {{- end }}
{{- end -}}

{{- define "domicile.volumes" -}}
{{- if and .tokens (not .credentials) -}}
{{- if .tokens.audiences -}}
{{- fail "cloudIdentity.audiences: a token needs <site>.json beside it, which says what to exchange it for; name credentialsSecret and leaseCredentialsSecret" -}}
{{- end -}}
{{- end -}}
volumes:
  - name: tmp
    emptyDir: {sizeLimit: {{ .tmp }}}
  {{- if .sites }}
  - name: sites
    configMap: {name: domicile-sites}
  {{- end }}
  {{- $files := . }}
  {{- range $name := list "credentials" "keys" "identity" "models" }}
  {{- with index $files $name }}
  - name: {{ $name }}
    projected:
      defaultMode: 0440
      sources:
        {{- range . }}
        - secret: {name: {{ . }}}
        {{- end }}
        {{- if eq $name "credentials" }}
        {{- range $site, $audience := $files.tokens.audiences }}
        - serviceAccountToken:
            path: {{ $site }}.token
            audience: {{ $audience | quote }}
            expirationSeconds: {{ $files.tokens.expirationSeconds }}
        {{- end }}
        {{- end }}
  {{- end }}
  {{- end }}
  {{- with .tls }}
  - name: tls
    secret: {secretName: {{ . }}, defaultMode: 0440}
  {{- end }}
  {{- with .metrics }}
  # Leases and reconciles don't wait for it: without the Secret only /metrics is closed.
  - name: metrics
    secret: {secretName: {{ . }}, optional: true, defaultMode: 0440}
  {{- end }}
  {{- if .wayOut }}
  # The operator makes them, and is one of those that wait for them.
  - name: way-out
    projected:
      defaultMode: 0440
      sources:
        - secret: {name: domicile-way-out, optional: true, items: [{key: egress, path: egress}]}
        {{- if .logins }}
        - secret: {name: domicile-way-out-logins, optional: true, items: [{key: egress, path: logins}]}
        {{- end }}
        - secret:
            name: domicile-way-out-tls
            optional: true
            items:
              - {key: tls.crt, path: tls.crt}
              - {key: tls.key, path: tls.key}
              - {key: ca.crt, path: ca.crt}
  {{- end }}
{{- end -}}
