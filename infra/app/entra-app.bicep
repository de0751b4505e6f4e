// The application that callers sign in to. In a module of its own, because the types of Microsoft Graph come from a
// registry when this is compiled. Whoever deploys needs the right to register applications.

extension microsoftGraphV1

param name string
param displayName string

@description('Where the function answers, without https://.')
param hostname string

@description('The identity that stands in for a client secret.')
param functionPrincipalId string

@description('Clients that may ask for a token without anybody\'s consent.')
param preAuthorizedClientIds array

// Tenants may refuse URIs that name neither the tenant nor the application.
var identifierUri = 'api://${tenant().tenantId}/${name}'
var scopeId = guid(name, 'user_impersonation')

resource application 'Microsoft.Graph/applications@v1.0' = {
  uniqueName: name
  displayName: displayName
  signInAudience: 'AzureADMyOrg'
  identifierUris: [
    identifierUri
  ]
  api: {
    requestedAccessTokenVersion: 2
    oauth2PermissionScopes: [
      {
        id: scopeId
        value: 'user_impersonation'
        type: 'User'
        isEnabled: true
        adminConsentDisplayName: 'Ask the database as the signed-in user'
        adminConsentDescription: 'Lets the client ask the database as the signed-in user, who sees their own rows only.'
        userConsentDisplayName: 'Ask the database as you'
        userConsentDescription: 'Lets the client ask the database as you. You see your own rows only.'
      }
    ]
    preAuthorizedApplications: [for clientId in preAuthorizedClientIds: {
      appId: clientId
      delegatedPermissionIds: [
        scopeId
      ]
    }]
  }
  web: {
    redirectUris: [
      'https://${hostname}/.auth/login/aad/callback'
    ]
    implicitGrantSettings: {
      enableAccessTokenIssuance: false
      enableIdTokenIssuance: true
    }
  }
}

resource servicePrincipal 'Microsoft.Graph/servicePrincipals@v1.0' = {
  appId: application.appId
}

resource noSecret 'Microsoft.Graph/applications/federatedIdentityCredentials@v1.0' = {
  name: '${application.uniqueName}/function-identity'
  description: 'App Service proves with its managed identity that it is this application.'
  issuer: '${environment().authentication.loginEndpoint}${tenant().tenantId}/v2.0'
  subject: functionPrincipalId
  audiences: [
    'api://AzureADTokenExchange'
  ]
}

output clientId string = application.appId
output identifierUri string = identifierUri
output servicePrincipalId string = servicePrincipal.id
